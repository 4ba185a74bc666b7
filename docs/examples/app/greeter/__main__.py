"""Greet as the settings say."""

import configparser
import sys

settings = configparser.ConfigParser()
settings.read("settings.ini")
sys.stdout.write(settings["greeter"]["greeting"] + "\n")
