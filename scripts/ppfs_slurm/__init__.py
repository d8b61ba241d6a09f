"""The rooms of ppfs-slurm(1) and ppfs-batch(1), which are the programs beside this folder.

arguments -> the command line        cluster -> what is asked of Slurm      mounted -> what the mount says
drivers   -> the same of PBS, SGE and HTCondor, for ppfs-batch(1)
lend      -> start, stop, status     auto    -> auto                        words   -> what the user is told
"""
