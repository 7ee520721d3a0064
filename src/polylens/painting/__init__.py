"""Wing: text to image, with a language model that conditions a diffusion denoiser through a bridge."""
