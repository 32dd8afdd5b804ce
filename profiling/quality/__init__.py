"""Image quality: CLIP score, FID and total variation, each with its scorer named."""
