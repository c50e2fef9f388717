"""The two demonstrations that `make demo` and `make demo-images` run."""
