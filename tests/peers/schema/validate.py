"""Validates configs with a JSON Schema. usage: validate.py SCHEMA CONFIG...

One line for each config: its path, then "fine" or the place and words of the worst error.
"""

import datetime
import json
import sys
import tomllib

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)

for path in sys.argv[2:]:
    with open(path, "rb") as file:
        try:
            config = tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            print(f"{path} no TOML: {error}")
            continue
    error = best_match(validator.iter_errors(config))
    where = "" if error is None else "/".join(map(str, error.absolute_path))
    print(f"{path} fine" if error is None else f"{path} {where}: {error.message}".replace("\n", " "))
