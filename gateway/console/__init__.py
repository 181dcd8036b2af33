"""The web console: sign-in, pages and static files, without a build step."""
