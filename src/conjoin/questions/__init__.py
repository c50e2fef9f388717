"""What a user asks, written once for every family: each question uses what a density declares and
names no family.
"""
