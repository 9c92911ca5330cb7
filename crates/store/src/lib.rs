//! One URI in, bytes out; claims and manifests.
