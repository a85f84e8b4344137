"""The HTTP port: an OpenAI-compatible front over the contract's own methods, and the playground page.

A request's JSON becomes the contract's message (`completions`, `chat`), which is called in this process through the
same interceptors and servicers as a gRPC call (`in_process`); its answer or status becomes JSON again (`answers`,
`errors`). Nothing is validated twice, and nothing is allowed here that gRPC refuses.
"""
