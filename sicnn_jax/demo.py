"""A web page on this machine: drop a picture, see its faces hallucinated.

    python -m sicnn_jax.demo

It uses the network that ships; --checkpoint=runs/di takes one of yours. For every face,
the page shows the network's input, bicubic and SICNN. If the face was larger than the
input, it also shows the original and, if the run has a recognition stage, the
similarity to it. It needs the extras `demo` and `detect`; only this machine can open
the page.
"""

import sys
from collections.abc import Sequence

from sicnn_jax import command, compilation_cache, weights, workdir
from sicnn_jax.inference import Hallucinator, web_page


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = command.parser('demo', __doc__)
    workdir.add_network_flags(parser)
    parser.add_argument(
        '--port', type=command.count, default=7860, help='port of the page'
    )
    return command.run(_serve, parser.parse_args(arguments))


def _serve(options):
    web_page.check_port(options.port)
    compilation_cache.keep_programs()
    with web_page.environment():
        try:
            page = web_page.build(Hallucinator(options.checkpoint, scale=options.scale))
        except ImportError:
            return command.fail(
                "the page needs gradio: pip install 'sicnn_jax[demo,detect]'"
            )
        if options.checkpoint is None:
            print(weights.NOTICE, flush=True)
        web_page.launch(page, options.port)
    return command.DONE


if __name__ == '__main__':
    sys.exit(main())
