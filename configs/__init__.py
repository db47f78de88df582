"""Configurations that come with foldbench; files that begin with an underscore are shared parts."""
