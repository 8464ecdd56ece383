"""`pipeline ci --promote`: the model of the run against the champion."""

from dataclasses import dataclass

from pipeline.commands.ci import markdown
from pipeline.core.errors import PipelineError
from pipeline.core.terminal import printable
from pipeline.experiments import run_lookup
from pipeline.experiments.promotion.promote import Promotion, promote


@dataclass(frozen=True)
class PromotionOutcome:
    """What became of the model of this run."""

    sentence: str
    promotion: Promotion | None
    """None if it could not be decided."""

    def issue(self) -> str:
        """Title and text of an issue, in Markdown, if a person should decide; else ""."""
        if self.promotion is None or not self.promotion.is_borderline:
            return ""
        run, name = self.promotion.candidate.run, self.promotion.candidate.name
        return "\n".join(
            [
                f"# Should {markdown.escape(name)} get a new champion?",
                "",
                markdown.escape(self.sentence),
                "",
                "Look at its report and at what it does with photographs that matter to you:",
                "",
                *markdown.code(f"pipeline compare @champion {run.info.run_id}"),
                "",
                "To promote it, with your reason:",
                "",
                *markdown.code(f'pipeline promote {run.info.run_id[:12]} --because "..."'),
                "",
                "To leave the champion as it is, close this issue: the next model is tested anew.",
                "",
            ]
        )


def promote_workspace() -> PromotionOutcome:
    """Promote the model in the workspace, if it is better than the champion."""
    try:
        promotion = promote(run_lookup.find_workspace_run())
    except PipelineError as error:
        return PromotionOutcome(f"not promoted: {printable(str(error))}", None)
    return PromotionOutcome(promotion.sentence(), promotion)
