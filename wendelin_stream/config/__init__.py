"""The YAML file, validated: policies, sources, pipelines, models."""
