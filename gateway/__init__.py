"""HTTP in. The only package that knows Starlette."""
