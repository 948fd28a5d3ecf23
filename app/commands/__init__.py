"""The commands, one module per group. Each is a thin shell: parse, call the library, show."""
