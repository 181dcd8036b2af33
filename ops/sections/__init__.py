"""The sections of the settings: every field with its unit, its default and the reason for it."""
