"""The runner on a bare host, with temporary folders in the places of the image."""
