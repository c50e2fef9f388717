"""One loop, several learners."""
