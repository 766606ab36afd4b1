"""CycloneDX: bills of materials, checked against the schema that its authors publish."""
