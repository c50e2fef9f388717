"""What drawn rows are worth: quality, copies of real rows, canaries."""
