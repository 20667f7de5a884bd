#!/bin/sh
# A stand-in for gpuhubd. Each test links it into a directory of its own and writes beside it, in
# `behaviour`, what this broker does. (A script written by the test itself could be busy (ETXTBSY) while
# another test forks.)
here=$(dirname "$0")
echo "$$ $*" >> "$here/starts"
. "$here/behaviour"
