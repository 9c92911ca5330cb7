//! Decoder architectures of the LLaMA family, read from and written to Hugging Face folders.
