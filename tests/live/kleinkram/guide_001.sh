#!/bin/bash

# Exit on error (non-zero exit codes mark action as failed)
set -e

echo "Get Started with Kleinkram Actions 🚀"

# Authenticate with the API key from environment variables
klein login --key "$KLEINKRAM_API_KEY"

echo "Download data from mission with UUID $KLEINKRAM_MISSION_UUID"
mkdir data
klein download -m "$KLEINKRAM_MISSION_UUID" --dest ./data

echo "List files of mission with UUID $KLEINKRAM_MISSION_UUID"
cd ./data || exit 1
ls -la
