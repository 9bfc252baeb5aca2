"""All tasks of `huggingface_hub`, in the order of the table."""

import hub_community
import hub_files
import hub_repositories
from serving import Tasks, serve

tasks = Tasks()
for part in (hub_files, hub_repositories, hub_community):
    tasks.found |= part.tasks.found

if __name__ == "__main__":
    serve(tasks)
