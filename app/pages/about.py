"""What happens to a scan here, and what a result can and cannot say."""

import streamlit as st

from brainage.serving.settings import ServerLimits

limits = ServerLimits()
st.title("Privacy and limits", anchor=False)
st.markdown(
    f"""
- Your scan goes to the server that shows this page, and nowhere else: this page loads nothing
  from other hosts.
- It is held in memory and in a private temporary folder while it is examined. The folder is
  deleted when the examination ends; the results when you close the page.
- File names are shown to you alone. They are never used as paths, logged, or printed on a report.
- Each scan is examined in a process of its own with at most {limits.child.memory_mb // 1024} GB and
  {limits.child.seconds / 60:.0f} minutes; {limits.predictions} run at once, others wait in line.
- At most {limits.files} files of {limits.upload_mb} MB at a time.

A **brain-age gap** is the error of a prediction: predicted minus real age. It mixes biology with
scanner, sequence, motion and chance. The **interval** holds for scans like those the model was
trained on. The **percentile** compares the raw gap with people of about the same age. The
**corrected gap** uses the age itself; it serves to compare groups.
"""
)
