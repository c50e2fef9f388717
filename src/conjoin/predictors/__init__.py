"""p(y | x): scorers of classes and numbers, from logistic regression to a network."""
