"""Looks at everything from its place, gives verdicts, serves the NOC page. Changes nothing: the agents act."""
