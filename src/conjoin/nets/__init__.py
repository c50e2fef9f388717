"""Bodies that families borrow: networks that see numbers and give numbers, and know nothing of
densities.
"""
