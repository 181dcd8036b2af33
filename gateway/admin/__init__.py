"""The admin JSON API: its route table, who may call what, and the acts behind it."""
