#!/bin/sh
uname -n
