#!/bin/bash

# exit on error
# (all non-zero exit codes mark the action as failed)
set -e

echo "Get Started with Kleinkram Actions 🚀"

# Authenticate with the API_KEY from the environment variables
klein login --key $APIKEY

echo "Download data from mission with UUID $MISSION_UUID"
mkdir data
klein download -m $MISSION_UUID --dest ./data # download the files of the mission

echo "List files of mission with UUID $MISSION_UUID"
cd ./data || exit 1
ls -la
