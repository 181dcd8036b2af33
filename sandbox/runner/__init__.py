"""What runs inside a container: one phase of one attempt, by the standard library alone.

The folder is copied into the image as ``runner`` and imports nothing of the project; it is started as
``python3 -I /opt/agent/runner`` (or as the module ``runner``). Everything here is as untrusted as the container: the
worker believes none of it (sandbox/codex.py).
"""
