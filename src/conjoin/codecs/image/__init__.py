"""Pictures: arrays, files and folders of them to events and back."""
