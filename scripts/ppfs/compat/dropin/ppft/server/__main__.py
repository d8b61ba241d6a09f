"""python -m ppft.server"""
from ppfs.compat.ppserver import main

main()
