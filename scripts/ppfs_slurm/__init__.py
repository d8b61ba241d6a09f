"""The rooms of ppfs-slurm(1), which is the program beside this folder.

arguments -> the command line        cluster -> what is asked of Slurm      mounted -> what the mount says
lend      -> start, stop, status     auto    -> auto                        words   -> what the user is told
"""
