"""Tasks of the sandbox over HTTP: REST, share links, and the shapes that ``codex cloud`` speaks."""
