"""Requests to any OpenAI-compatible endpoint, for whoever needs text from a model: synthesis, captions, a judge.

A caller brings three things and gets answers in order, nothing lost and nothing paid twice:

    async def draft(chat: Chat, item: Item) -> Draft | RecordError:
        completion = await chat.complete(ChatRequest(messages=messages, response_format=schema))
        ...                                      # read completion.text; ask again where it cannot be read

    runner = ChatRunner(ChatSettings(section="synthesize", model="...", ...), journal_folder)   # SetupError if wrong
    for result in runner.run(items, draft):      # lazy, in the order of the items, `concurrency` of them in flight
        ...
    runner.spent()                               # requests, retries, tokens, cost: of this run and of the workspace

`Chat.complete` is all that a caller sees of the network. It returns a `Completion` (text, usage, cut-off flag, key in
the journal), raises `RecordError` where this one request failed although the endpoint works, and `SetupError` where
the endpoint, the key or the budget does not allow to go on. A caller turns the first into its result and lets the
second pass. The content of a message may be text or a list of parts such as `image_url` and `video_url`.

messages   what is asked and what came: `ChatRequest`, `Completion`, `Usage`
settings   `ChatSettings`, `Budget`, and where the key comes from
journal    every answer, on disk before it is read
slots      how many requests are in flight, adapted to what the endpoint takes
account    what was spent (`Spending`), and the budget that stops a run
tab        the same on disk, for the run that goes on after a kill
endpoint   one attempt over the network
faults     what its failure says, and whose fault it is
client     `ChatClient`: the journal, retries and the judgement of failures around it
runner     `ChatRunner`: an event loop in a thread of its own
asking     a JSON object out of a reply, with one second chance
"""
