#!/usr/bin/env bash
set -euo pipefail
submitted=$(scontrol show job "$SLURM_JOB_ID" --oneliner | grep --only-matching 'SubmitTime=[^ ]*')
echo "${snakemake_wildcards[number]} $SLURM_JOB_ID ${submitted#*=} $(date +%FT%T)" >>ran.txt
