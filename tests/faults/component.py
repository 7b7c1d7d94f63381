async def cut_link(folder, database, seconds):
    """the component's link is cut"""
