#!/bin/sh
cat /etc/kind
