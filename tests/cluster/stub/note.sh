#!/usr/bin/env bash
set -euo pipefail
# The number of an array's last task is that of the array: all of its tasks are shown, submitted at the same time.
submitted=$(scontrol show job "$SLURM_JOB_ID" --oneliner | grep --only-matching 'SubmitTime=[^ ]*' | sort --unique)
echo "${snakemake_wildcards[number]} $SLURM_JOB_ID ${submitted#*=} $(date +%FT%T)" >>ran.txt
