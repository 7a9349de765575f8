"""The commands, one module each; the group calls a module's ``run``."""
