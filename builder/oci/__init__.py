"""The vocabulary of the OCI image-spec: digests, descriptors, platforms, images. No I/O."""
