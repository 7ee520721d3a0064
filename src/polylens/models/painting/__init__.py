"""What a painter is made of: text encoder, bridge, denoiser, pixels or latents, samplers, and checks around it."""
