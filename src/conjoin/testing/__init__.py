"""What a density must pass: shipped, so that third parties test their own family with it."""
