"""Sa2VA: a language model that looks at pictures and says with one word, [SEG], where SAM 2 is to draw."""
