"""Networks and loaders in the user's own code: how they are written, found, imported, recorded."""

from foldbench.bench.user_code.loading import UserCode as UserCode
from foldbench.bench.user_code.loading import import_attribute as import_attribute
from foldbench.bench.user_code.loading import load_user_code as load_user_code
from foldbench.bench.user_code.provenance import loaded_sources as loaded_sources
from foldbench.bench.user_code.reference import Reference as Reference
from foldbench.bench.user_code.reference import parse_reference as parse_reference
