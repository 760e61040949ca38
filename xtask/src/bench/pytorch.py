"""Times a training step of PyTorch's own transformer: `times` a line, seconds a step back."""
import math, sys, time
import torch

torch.set_num_threads(1)
torch.manual_seed(1)
PIECES, WIDTH, HEADS, INNER, LAYERS, DROPOUT, SMOOTHING = 4000, 128, 4, 512, 2, 0.1, 0.1

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(PIECES, WIDTH)
        torch.nn.init.normal_(self.embedding.weight, 0, WIDTH**-0.5)
        self.transformer = torch.nn.Transformer(
            WIDTH, HEADS, LAYERS, LAYERS, INNER, DROPOUT, batch_first=True, norm_first=True)

    def forward(self, source, target, source_ends, target_ends):
        embed = lambda tokens: self.embedding(tokens) * math.sqrt(WIDTH)
        length = target.shape[1]
        later = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
        states = self.transformer(
            embed(source), embed(target), tgt_mask=later, src_key_padding_mask=source_ends,
            tgt_key_padding_mask=target_ends, memory_key_padding_mask=source_ends)
        return states @ self.embedding.weight.T

def padded(lengths):
    tokens = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    ends = torch.ones_like(tokens, dtype=torch.bool)
    for at, length in enumerate(lengths):
        tokens[at, :length] = torch.randint(3, PIECES, (length,))
        ends[at, :length] = False
    return tokens, ends

lengths = [7 + at * 7 % 14 for at in range(24)]
source, source_ends = padded(lengths)
target, target_ends = padded([length + 1 for length in lengths])
labels = target.clone()
labels[target_ends] = -100
model = Model()
optimiser = torch.optim.Adam(model.parameters(), 1e-3, betas=(0.9, 0.98))
print("PyTorch", torch.__version__.split("+")[0] + ", one thread", flush=True)
for line in sys.stdin:
    times = int(line)
    began = time.perf_counter()
    for _ in range(times):
        scores = model(source, target, source_ends, target_ends)
        loss = torch.nn.functional.cross_entropy(
            scores.view(-1, PIECES), labels.view(-1), ignore_index=-100, label_smoothing=SMOOTHING)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    print((time.perf_counter() - began) / times, flush=True)
