"""The vocabulary of the OCI image-spec: digests, descriptors, platforms, images, references. No I/O."""
