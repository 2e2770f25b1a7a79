"""`python -m pipelines.device`: one prepared command that does on a GPU what CPUs cannot.

`images` trains the yardsticks at full length, `speed` times the steps of the brain-age networks,
`vit` times the stages of ViT-B/16; `budget` shares out the minutes, `rows` keeps what is done.
"""
