"""Autoregressive families: the chain rule, one conditional after the other.

    p(x) = prod_d p(x_d | x_1, ..., x_{d-1})

Y. Bengio and S. Bengio (2000), Modeling high-dimensional discrete data with multi-layer neural
networks. Exact, in nats.
"""
