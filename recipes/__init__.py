"""The recipes that ship with slimalign, one TOML file each."""
