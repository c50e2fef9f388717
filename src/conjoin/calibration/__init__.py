"""What held-out rows tell: how familiar a row is, and bounds on errors."""
