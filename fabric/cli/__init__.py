"""The command `fabric`: one file per noun or everyday verb, each loaded only when it is used."""
