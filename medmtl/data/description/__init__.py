"""What a collection offers to several tasks that share an encoder: who is labelled for what."""
